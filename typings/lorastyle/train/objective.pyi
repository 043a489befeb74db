from train.objective import *
