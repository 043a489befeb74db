from ui.stage import *
