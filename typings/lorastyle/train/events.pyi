from train.events import *
