from ui.form import *
