from train.status import *
