from train.loop import *
