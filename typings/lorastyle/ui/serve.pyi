from ui.serve import *
