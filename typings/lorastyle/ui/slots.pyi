from ui.slots import *
