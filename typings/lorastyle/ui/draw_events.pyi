from ui.draw_events import *
