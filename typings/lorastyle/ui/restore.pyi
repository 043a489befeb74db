from ui.restore import *
