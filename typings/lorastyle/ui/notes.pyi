from ui.notes import *
