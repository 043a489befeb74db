from ui.kept import *
