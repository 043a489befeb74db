from ui.draw_tab import *
