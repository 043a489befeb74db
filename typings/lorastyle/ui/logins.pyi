from ui.logins import *
