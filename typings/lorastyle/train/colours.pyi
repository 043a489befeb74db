from train.colours import *
