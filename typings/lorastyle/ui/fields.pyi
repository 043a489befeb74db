from ui.fields import *
