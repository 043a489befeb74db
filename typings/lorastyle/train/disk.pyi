from train.disk import *
