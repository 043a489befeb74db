from ui.studio import *
