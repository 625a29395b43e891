# Time of one core that a package of R takes for a table of studies: Rscript peers.R NAME TABLE.csv
# Normal effects, mu ~ N(0, 2), tau ~ HN(1), as dfsp has them by default; metafor has no priors.
given <- commandArgs(TRUE)
name <- given[1]
studies <- read.csv(given[2])
suppressPackageStartupMessages(library(name, character.only = TRUE))

fit <- switch(name,
  metafor = function() rma.glmm(measure = "PLO", xi = events, ni = total, data = studies),
  RBesT = function() {
    gMAP(cbind(events, total - events) ~ 1 | study, data = studies, family = binomial,
         tau.dist = "HalfNormal", tau.prior = 1, beta.prior = cbind(0, 2), cores = 1)
  },
  # Its model is compiled first, as somebody's first fit has it.
  brms = function() {
    brm(events | trials(total) ~ 1 + (1 | study), data = studies, family = binomial(),
        prior = c(set_prior("normal(0, 2)", class = "Intercept"),
                  set_prior("normal(0, 1)", class = "sd")),
        cores = 1, refresh = 0, silent = 2)
  }
)
mean_of_mu <- switch(name,
  metafor = function(found) found$beta[1],
  RBesT = function(found) summary(found)$beta[1],
  brms = function(found) fixef(found)[1]
)

spent <- function() sum(proc.time()[c("user.self", "sys.self", "user.child", "sys.child")])
times <- c()
while (length(times) == 0 || (sum(times) < 1 && length(times) < 10)) { # the first warms up
  before <- spent()
  found <- suppressMessages(suppressWarnings(fit()))
  times <- c(times, spent() - before)
}
cat(sprintf('{"seconds": %.4f, "mu": %.4f, "version": "%s", "R": "%s"}\n', min(times),
            mean_of_mu(found), packageVersion(name), getRversion()))
