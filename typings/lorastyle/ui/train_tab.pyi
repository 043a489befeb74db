from ui.train_tab import *
