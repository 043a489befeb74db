from ui.curve import *
