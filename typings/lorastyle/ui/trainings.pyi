from ui.trainings import *
