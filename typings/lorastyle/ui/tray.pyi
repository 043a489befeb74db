from ui.tray import *
