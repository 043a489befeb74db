from train.sheet import *
