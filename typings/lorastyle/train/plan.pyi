from train.plan import *
