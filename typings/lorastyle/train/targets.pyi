from train.targets import *
