from ui.places import *
