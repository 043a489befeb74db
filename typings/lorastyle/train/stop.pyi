from train.stop import *
