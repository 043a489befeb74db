from train.clock import *
