from train.modes import *
