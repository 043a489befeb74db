from ui.visitors import *
