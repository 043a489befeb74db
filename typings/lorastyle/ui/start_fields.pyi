from ui.start_fields import *
