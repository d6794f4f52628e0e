#' groupnorm: Group Normalization for TensorFlow and Keras
#'
#' [layer_group_normalization()] normalizes groups of channels within each sample, and
#' [layer_instance_normalization()] each channel on its own. Both build a layer of the
#' Python package of the same name, which this package carries, and compose it onto a
#' model or a tensor.
#'
#' Python is not started before the first layer is made. [groupnorm_config()] says which
#' Python was found and whether it can be used, and [install_groupnorm()] installs what
#' it needs.
#'
#' `vignette("get-started")` leads from the installation to a trained, saved and
#' reloaded model; `vignette("how-it-works")` has pictures, advice on the number of
#' groups, masks and accuracy; `vignette("which-normalization")` says what to take for
#' which data, from experiments; `vignette("migrating")` is for those who come from
#' 'tfaddons'.
#'
#' @references Wu, Y. and He, K. (2018). Group Normalization.
#'   <https://arxiv.org/abs/1803.08494>
#' @keywords internal
"_PACKAGE"
