from ui.starts import *
