from train.finish import *
