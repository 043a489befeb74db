from train.cache import *
