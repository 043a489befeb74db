from train.captions import *
