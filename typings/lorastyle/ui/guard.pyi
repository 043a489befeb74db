from ui.guard import *
