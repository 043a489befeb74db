from train.os_errors import *
