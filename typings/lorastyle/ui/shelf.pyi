from ui.shelf import *
