from ui.number_box import *
