from ui.visiting import *
