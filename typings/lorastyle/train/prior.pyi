from train.prior import *
