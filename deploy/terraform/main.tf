# The roles of a broker for one registry. `terraform output -json rise_ecr_config` prints the
# settings of [registries.NAME].

variable "region" {
  description = "AWS region of the registry."
  type        = string
  default     = "eu-west-1"
}

provider "aws" {
  region = var.region
}

module "rise_ecr" {
  source = "../modules/rise-aws"

  name        = "rise-backend"
  repo_prefix = "rise/"
  auto_remove = false

  tags = {
    Environment = "production"
    ManagedBy   = "terraform"
  }
}

output "rise_ecr_config" {
  value = module.rise_ecr.rise_config
}
