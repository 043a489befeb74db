from train.draw import *
