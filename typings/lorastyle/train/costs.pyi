from train.costs import *
