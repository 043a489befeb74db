from ui.train_events import *
