from ui.adapter_rows import *
