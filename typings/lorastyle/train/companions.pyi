from train.companions import *
