from train.follow import *
