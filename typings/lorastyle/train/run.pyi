from train.run import *
