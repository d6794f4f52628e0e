library(testthat)
library(groupnorm)

test_check("groupnorm")
