from ui.prompt_names import *
