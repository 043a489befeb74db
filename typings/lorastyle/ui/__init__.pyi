from ui import *
