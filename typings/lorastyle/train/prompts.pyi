from train.prompts import *
