from ui.train_view import *
